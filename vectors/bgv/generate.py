#!/usr/bin/env python3
"""Makes the vectors of `bgv/` and `bfv/` with Microsoft SEAL (as packaged in tenseal 0.3.18).

    pip install tenseal==0.3.18 && python generate.py

Every run draws new keys, so every run writes new vectors; README.md says what the files hold.
"""
import json
from pathlib import Path

import tenseal.sealapi as seal

LOG_N = 12
N = 1 << LOG_N
BITS = [36, 33, 37]  # q_0, q_1 and the special prime
T = 65537
RESIDUE_BYTES = 5
SLOTS_KEPT = 64
STEP = 5


def centred(value, q):
    value %= q
    return value - q if value > q // 2 else value


def minimal_root(q):
    """The smallest primitive 2N-th root of unity, which is the one that SEAL uses."""
    root = scuro_root(q)
    square, best = root * root % q, root
    for _ in range(N):
        root = root * square % q
        best = min(best, root)
    return best


def scuro_root(q):
    """The power of the first integer that has the exact order, which is the one that Scuro uses."""
    roots = (pow(g, (q - 1) // (2 * N), q) for g in range(2, q))
    return next(root for root in roots if pow(root, N, q) == q - 1)


def slot_map():
    """For Scuro's slot its index in SEAL's order, which goes by powers of 3 of another root."""
    exponent = {pow(minimal_root(T), k, T): k for k in range(1, 2 * N, 2)}[scuro_root(T)]
    index = {pow(3, j, 2 * N): j for j in range(N // 2)}
    index |= {2 * N - e: N // 2 + j for e, j in index.items()}
    powers = [pow(5, p, 2 * N) for p in range(N // 2)]
    return [index[exponent * e % (2 * N)] for e in powers + [2 * N - e for e in powers]]


SLOT_MAP = slot_map()


class Set:
    def __init__(self, scheme):
        parameters = seal.EncryptionParameters(scheme)
        parameters.set_poly_modulus_degree(N)
        parameters.set_coeff_modulus(seal.CoeffModulus.Create(N, BITS))
        parameters.set_plain_modulus(T)
        self.primes = [m.value() for m in parameters.coeff_modulus()]
        self.context = seal.SEALContext(parameters, True, seal.SEC_LEVEL_TYPE.TC128)
        self.encoder = seal.BatchEncoder(self.context)
        self.evaluator = seal.Evaluator(self.context)
        generator = seal.KeyGenerator(self.context)
        self.secret = generator.secret_key()
        self.galois = seal.GaloisKeys()
        generator.create_galois_keys([pow(5, STEP, 2 * N), 2 * N - 1], self.galois)
        self.encryptor = seal.Encryptor(self.context, self.secret)
        self.decryptor = seal.Decryptor(self.context, self.secret)

    def encrypt(self, values):
        slots = [0] * N
        for value, index in zip(values, SLOT_MAP, strict=True):
            slots[index] = value
        plain, cipher = seal.Plaintext(), seal.Ciphertext()
        self.encoder.encode(slots, plain)
        self.encryptor.encrypt_symmetric(plain, cipher)
        return cipher

    def decrypt(self, cipher):
        plain = seal.Plaintext()
        self.decryptor.decrypt(cipher, plain)
        slots = self.encoder.decode_int64(plain)
        return [slots[index] for index in SLOT_MAP]

    def residues(self, cipher):
        """Coefficients, parts outermost, then limbs."""
        copy = seal.Ciphertext()
        if cipher.is_ntt_form():
            self.evaluator.transform_from_ntt(cipher, copy)
        else:
            copy = cipher
        array = copy.dyn_array()
        return [array.at(i) for i in range(copy.size() * copy.coeff_modulus_size() * N)]

    def secret_coefficients(self):
        q, root = self.primes[0], minimal_root(self.primes[0])
        words = self.secret.data()
        values = bit_reversed([words.data(i) for i in range(N)])
        natural = cyclic_transform(values, pow(root, -2, q), q)
        inverse, scale = pow(root, -1, q), pow(N, -1, q)
        return [centred(c * pow(inverse, i, q) * scale, q) for i, c in enumerate(natural)]


def bit_reversed(values):
    bits = len(values).bit_length() - 1
    return [values[int(f"{i:0{bits}b}"[::-1], 2)] for i in range(len(values))]


def cyclic_transform(values, root, q):
    """Plain decimation in time: natural order in and out."""
    n = len(values)
    if n == 1:
        return values
    even = cyclic_transform(values[::2], root * root % q, q)
    odd = cyclic_transform(values[1::2], root * root % q, q)
    turned = [o * pow(root, i, q) % q for i, o in enumerate(odd)]
    return [(e + o) % q for e, o in zip(even, turned)] + [(e - o) % q for e, o in zip(even, turned)]


def sample(stride, shift):
    """Tests make the same values from the same formula."""
    return [centred(j * j * stride + j * shift + 5, T) for j in range(N)]


def write_set(folder, scheme):
    folder.mkdir(exist_ok=True)
    made = Set(scheme)
    ev = made.evaluator
    a, b = made.encrypt(sample(37, 11)), made.encrypt(sample(53, 7))
    product, switched, rotated, swapped = (seal.Ciphertext() for _ in range(4))
    ev.multiply(a, b, product)
    ev.mod_switch_to_next(product, switched)
    ev.apply_galois(a, pow(5, STEP, 2 * N), made.galois, rotated)
    ev.apply_galois(a, 2 * N - 1, made.galois, swapped)
    ciphers = {"cipher_a": a, "cipher_b": b, "product": product, "switched": switched}
    ciphers |= {"rotated_a": rotated, "swapped_a": swapped}
    for name, cipher in ciphers.items():
        words = b"".join(w.to_bytes(RESIDUE_BYTES, "little") for w in made.residues(cipher))
        (folder / f"{name}.bin").write_bytes(words)
    secret = made.secret_coefficients()
    (folder / "secret.txt").write_text("".join("-0+"[c + 1] for c in secret) + "\n")
    record = {
        "implementation": "Microsoft SEAL 4.3 (tenseal 0.3.18)",
        "log_n": LOG_N,
        "q": made.primes[:2],
        "p": made.primes[2:],
        "t": T,
        "step": STEP,
        "slots": {name: made.decrypt(cipher)[:SLOTS_KEPT] for name, cipher in ciphers.items()},
    }
    (folder / "set.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    here = Path(__file__).parent.parent
    # The binding has no name for BGV, which is number 3.
    write_set(here / "bgv", seal.SCHEME_TYPE(3))
    write_set(here / "bfv", seal.SCHEME_TYPE.BFV)
