"""From the tables of a build to a version that others load: checked, written, compared with the version before, uploaded, read back."""
