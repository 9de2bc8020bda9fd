"""`doctor --live`: what no document states, asked of each provider on one small machine that is ended again."""
