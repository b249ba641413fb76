"""``report.html`` and its tables: files that open offline and can be sent to a colleague."""

from pacbayes_sft.report.export import write_tables
from pacbayes_sft.report.html import render_report, reproduce, write_report
from pacbayes_sft.report.sentence import certificate_sentence

__all__ = ["certificate_sentence", "render_report", "reproduce", "write_report", "write_tables"]
