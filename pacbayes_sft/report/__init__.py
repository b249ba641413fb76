"""``report.html``: one file that opens offline and can be sent to a colleague."""

from pacbayes_sft.report.html import certificate_sentence, render_report, reproduce, write_report

__all__ = ["certificate_sentence", "render_report", "reproduce", "write_report"]
