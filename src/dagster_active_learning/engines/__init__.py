"""The kernels in other query engines, and the workers that run tasks of a pool elsewhere."""
