//! Lattice homomorphic encryption over one RNS-RLWE core: parameters, keys, CKKS, circuits, codec.
