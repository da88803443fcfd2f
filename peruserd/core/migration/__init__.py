"""Moving from couch_peruser to peruserd."""
