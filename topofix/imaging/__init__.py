"""Files and their geometry: images, label maps, probability maps and tables; no maths."""
