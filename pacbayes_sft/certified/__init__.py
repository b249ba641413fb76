"""A certified adapter: one draw from the posterior, deployed as it is, with its certificate."""
