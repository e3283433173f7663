"""Many cases, many processes, some of them bad."""
