"""Plans: from a configuration and the inputs' content to the specification of every artifact, before anything runs."""
