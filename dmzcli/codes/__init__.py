"""The bits of a dataset: the table, encoding into it, priors fitted to it, draws from them."""
