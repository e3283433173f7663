"""The command `apatite`: one file per verb, and the only place that prints."""
