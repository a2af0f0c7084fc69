"""phenopipe: from microscope plate images to maps of biology."""
