"""The paper's tables and figures, and what can be said about its claims, drawn from the records of runs."""
