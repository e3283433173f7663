"""What every layer may lean on: errors, configuration, geometry, randomness, the commit of a file."""
