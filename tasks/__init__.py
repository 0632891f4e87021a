"""One cached Prefect task a stage."""
