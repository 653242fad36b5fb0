"""What every wheel must pass where it is built: the kernel loads and computes, with NumPy alone installed."""

import numpy as np

from topofix.topology.persistence import barcode, barcodes, betti, simple_points

field = np.random.default_rng(0).random((24, 25, 26), np.float32)
for connectivity in ("full", "face"):
    single, several = (barcode(field, connectivity, threads=threads) for threads in (1, 4))
    assert np.array_equal(single.birth, several.birth)
    assert np.array_equal(single.death, several.death)
    wide = barcode(field.astype(np.float64), connectivity)
    assert np.array_equal(single.birth, wide.birth)
    assert np.array_equal(single.death, wide.death)
    assert (single.dimension == 0).sum() > 100
ring = np.ones((5, 5))
ring[2, 2] = 0
assert betti(ring) == (1, 1)
assert [len(bars) for bars in barcodes([ring, ring])] == [2, 2]
assert simple_points(ring)[0, 0]
assert not simple_points(ring)[2, 2]
print("The kernel works.")
