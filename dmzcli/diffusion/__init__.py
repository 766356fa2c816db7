"""The forward process, its solvers and its bound, on any denoiser; no network, no bits, no folder."""
