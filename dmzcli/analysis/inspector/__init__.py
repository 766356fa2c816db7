"""What each bit means, what the code means, and when in the denoising the bits speak."""
