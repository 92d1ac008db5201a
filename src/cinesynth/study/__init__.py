"""Whether generated hearts help: segmenters trained with and without them, tested at home and on unseen vendors."""
