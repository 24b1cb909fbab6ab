"""What leaves the page: a variant's checkpoint, its command, a push; and pages that need no server, report and site."""
