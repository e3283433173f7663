"""Models against models on the same patients: differences, tests, margins, strata, and the spread between trainings."""
