"""From bits and noise to images: recipes, decoding, folders of samples."""
