"""What the machine gives, made safe: whole files, HDF5, PNGs, devices, processes, signals, named randomness."""
