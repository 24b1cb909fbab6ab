"""What is taken away from the page and lives without its server: the report and the static page of a run."""
