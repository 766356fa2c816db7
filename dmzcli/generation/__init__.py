"""From bits and noise to images: recipes, decoding, inversion, interpolation, folders of samples."""
