//! Arithmetic in Z_q[X]/(X^N+1): moduli, number-theoretic transforms, residue number systems, samplers.
