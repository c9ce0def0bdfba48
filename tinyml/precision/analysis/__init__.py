"""What int8 costs and gains: compared, diagnosed, searched."""
