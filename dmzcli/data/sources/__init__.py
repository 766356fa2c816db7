"""One file per dataset: where it lies, what its splits and labels are."""
