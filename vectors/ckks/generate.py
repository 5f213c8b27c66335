#!/usr/bin/env python3
"""Makes the CKKS vectors of this folder with Microsoft SEAL (as packaged in tenseal 0.3.18).

    pip install tenseal==0.3.18 && python generate.py

Every run draws new keys, so every run writes new vectors; README.md says what the files hold.
"""
import json
import secrets
import struct
import tempfile
from pathlib import Path

import tenseal.sealapi as seal

LOG_N = 12
BITS = [36, 30, 40]  # q_0, q_1 and the special prime
SCALE = 2.0**30
RESIDUE_BYTES = 5
SLOTS_KEPT = 64
STEPS = [1, 5, -3]


class Set:
    """A SEAL context of degree n with everything it needs, and the maps to Scuro's conventions."""

    def __init__(self, n, secret=None):
        self.n = n
        parameters = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
        parameters.set_poly_modulus_degree(n)
        parameters.set_coeff_modulus(seal.CoeffModulus.Create(n, BITS))
        self.primes = [m.value() for m in parameters.coeff_modulus()]
        self.context = seal.SEALContext(parameters, True, seal.SEC_LEVEL_TYPE.TC128)
        self.encoder = seal.CKKSEncoder(self.context)
        self.evaluator = seal.Evaluator(self.context)
        self.roots = [minimal_root(q, n) for q in self.primes]
        if secret is None:
            generator = seal.KeyGenerator(self.context)
        else:
            generator = seal.KeyGenerator(self.context, self.load_secret(secret))
        self.secret = generator.secret_key()
        self.galois = seal.GaloisKeys()
        generator.create_galois_keys([pow(5, k, 2 * n) for k in STEPS], self.galois)
        self.relin = seal.RelinKeys()
        generator.create_relin_keys(self.relin)
        self.encryptor = seal.Encryptor(self.context, self.secret)
        self.decryptor = seal.Decryptor(self.context, self.secret)
        self.slot_map = slots_of_five(n)

    def encode(self, values):
        """Encodes slots in the order of the generator 5; SEAL's own order is that of 3."""
        slots = [0j] * (self.n // 2)
        for value, (index, conjugate) in zip(values, self.slot_map, strict=True):
            slots[index] = complex(value).conjugate() if conjugate else complex(value)
        plain = seal.Plaintext()
        self.encoder.encode(slots, SCALE, plain)
        return plain

    def decrypt(self, cipher):
        plain = seal.Plaintext()
        self.decryptor.decrypt(cipher, plain)
        slots = self.encoder.decode_complex(plain)
        return [slots[i].conjugate() if conj else slots[i] for i, conj in self.slot_map]

    def encrypt(self, plain):
        cipher = seal.Ciphertext()
        self.encryptor.encrypt_symmetric(plain, cipher)
        return cipher

    def plain_limbs(self, plain, limbs):
        """Coefficient form of an encoded plaintext, one list per prime."""
        words = [plain.data(i) for i in range(limbs * self.n)]
        return [self.inverse(words[i * self.n : (i + 1) * self.n], i) for i in range(limbs)]

    def cipher_polys(self, cipher):
        """Coefficient form of a ciphertext, one polynomial per part, one list per prime."""
        copy = seal.Ciphertext()
        self.evaluator.transform_from_ntt(cipher, copy)
        n, limbs = self.n, copy.coeff_modulus_size()
        array = copy.dyn_array()
        words = [array.at(i) for i in range(copy.size() * limbs * n)]
        rows = [words[i * n : (i + 1) * n] for i in range(copy.size() * limbs)]
        return [rows[i * limbs : (i + 1) * limbs] for i in range(copy.size())]

    def load_cipher(self, like, polys):
        """A ciphertext of SEAL with the level and scale of `like` and these coefficients."""
        words = [w for poly in polys for limb in poly for w in limb]
        # The identifier of the level leads the serialised parameters of a ciphertext.
        body = struct.pack("<4Q", *like.parms_id()) + b"\0"
        body += struct.pack("<3Qd", len(polys), self.n, len(polys[0]), like.scale)
        body += self.tail + stream(struct.pack("<Q", len(words)) + pack(words))
        cipher = load(seal.Ciphertext(self.context), self.context, stream(body))
        self.evaluator.transform_to_ntt_inplace(cipher)
        return cipher

    # SEAL 4 stores BGV's correction factor after the scale.
    tail = struct.pack("<Q", 1)

    def load_secret(self, coefficients):
        limbs = range(len(self.primes))
        words = [w for i in limbs for w in self.forward([c % self.primes[i] for c in coefficients], i)]
        key_id = self.context.key_parms_id()
        body = struct.pack("<4QQd", *key_id, len(words), 1.0)
        body += stream(struct.pack("<Q", len(words)) + pack(words))
        return load(seal.SecretKey(), self.context, stream(body))

    def forward(self, coefficients, index):
        q, root = self.primes[index], self.roots[index]
        twisted = [c * t % q for c, t in zip(coefficients, powers(root, self.n, q))]
        return bit_reversed(cyclic_transform(twisted, root * root % q, q))

    def inverse(self, values, index):
        q, root = self.primes[index], pow(self.roots[index], -1, self.primes[index])
        natural = cyclic_transform(bit_reversed(values), root * root % q, q)
        scale = pow(self.n, -1, q)
        return [c * t % q * scale % q for c, t in zip(natural, powers(root, self.n, q))]


def load(target, context, data):
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        target.load(context, file.name)
    return target


def stream(body):
    """SEAL's header (magic, header size, version 4.3, no compression, whole size) and the body."""
    return struct.pack("<HBBBBHQ", 0xA15E, 16, *VERSION, 0, 0, 16 + len(body)) + body


def library_version():
    with tempfile.NamedTemporaryFile() as file:
        seal.Plaintext(1).save(file.name)
        return tuple(Path(file.name).read_bytes()[3:5])


VERSION = library_version()


def pack(words):
    return struct.pack(f"<{len(words)}Q", *words)


def powers(base, count, q):
    out, value = [], 1
    for _ in range(count):
        out.append(value)
        value = value * base % q
    return out


def minimal_root(q, n):
    """The smallest primitive 2n-th root of unity, which is the one that SEAL uses."""
    root = next(r for g in range(2, q) if pow(r := pow(g, (q - 1) // (2 * n), q), n, q) == q - 1)
    square, best = root * root % q, root
    for _ in range(n):
        root = root * square % q
        best = min(best, root)
    return best


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
    turned = [o * t % q for o, t in zip(odd, powers(root, n // 2, q))]
    return [(e + o) % q for e, o in zip(even, turned)] + [(e - o) % q for e, o in zip(even, turned)]


def slots_of_five(n):
    """For slot j of generator 5: SEAL's slot of the same root, and whether it holds the conjugate."""
    order_of_three = {pow(3, j, 2 * n): j for j in range(n // 2)}
    found = []
    for j in range(n // 2):
        root = pow(5, j, 2 * n)
        direct = order_of_three.get(root)
        found.append((direct, False) if direct is not None else (order_of_three[2 * n - root], True))
    return found


def sample(count, stride, modulus, shift, real):
    """Exact dyadic values in (-1, 1); tests make the same ones from the same formula."""
    part = lambda j, s, m: ((j * s + shift) % m - m // 2) / 128.0
    if real:
        return [part(j, stride, modulus) for j in range(count)]
    return [complex(part(j, stride, modulus), part(j, stride + 54, modulus - 6)) for j in range(count)]


def write(folder, name, limbs):
    residues = (w.to_bytes(RESIDUE_BYTES, "little") for limb in limbs for w in limb)
    (folder / f"{name}.bin").write_bytes(b"".join(residues))


def write_set(folder, context, keep, secret, made):
    """Runs every operation and writes inputs and outcomes; `keep` cuts a limb to what is stored."""
    folder.mkdir(exist_ok=True)
    ev = context.evaluator
    plain_a, cipher_a, cipher_b = made
    product, rescaled, by_plain, relin = (seal.Ciphertext() for _ in range(4))
    ev.multiply(cipher_a, cipher_b, product)
    ev.rescale_to_next(product, rescaled)
    ev.multiply_plain(cipher_a, plain_a, by_plain)
    ev.relinearize(product, context.relin, relin)
    relin_rescaled = seal.Ciphertext()
    ev.rescale_to_next(relin, relin_rescaled)

    flat = lambda polys: [keep(limb) for poly in polys for limb in poly]
    write(folder, "plain_a", [keep(context.plain_limbs(plain_a, 1)[0])])
    write(folder, "cipher_a", flat(context.cipher_polys(cipher_a)))
    write(folder, "cipher_b", flat(context.cipher_polys(cipher_b)))
    write(folder, "product", flat(context.cipher_polys(product)))
    write(folder, "rescaled", flat(context.cipher_polys(rescaled)))
    write(folder, "a_by_plain_a", [keep(context.cipher_polys(by_plain)[0][0])])
    (folder / "secret.txt").write_text("".join("-0+"[c + 1] for c in keep(secret)) + "\n")

    slots = {"cipher_a": cipher_a, "cipher_b": cipher_b, "product": product, "relinearized": relin}
    slots |= {"rescaled": rescaled, "relinearized_rescaled": relin_rescaled, "a_by_plain_a": by_plain}
    for step in STEPS:
        slots[f"rotated_a_by_{step}"] = turned = seal.Ciphertext()
        ev.apply_galois(cipher_a, pow(5, step, 2 * context.n), context.galois, turned)
    record = {
        "implementation": f"Microsoft SEAL {VERSION[0]}.{VERSION[1]} (tenseal 0.3.18)",
        "log_n": LOG_N,
        "q": context.primes[:2],
        "p": context.primes[2:],
        "scale": SCALE,
        "rescaled_scale": rescaled.scale,
        "slots": {},
    }
    for name, cipher in slots.items():
        found = context.decrypt(cipher)[:SLOTS_KEPT]
        record["slots"][name] = [[z.real, z.imag] for z in found]
    (folder / "set.json").write_text(json.dumps(record, indent=1) + "\n")


def centred(limb, q):
    return [w - q if w > q // 2 else w for w in limb]


def secret_of(context):
    words = context.secret.data()
    limb = [words.data(i) for i in range(context.n)]
    return centred(context.inverse(limb, 0), context.primes[0])


def standard(folder):
    context = Set(1 << LOG_N)
    a = sample(context.n // 2, 37, 257, 11, real=False)
    b = sample(context.n // 2, 53, 241, 7, real=False)
    plain_a = context.encode(a)
    made = plain_a, context.encrypt(plain_a), context.encrypt(context.encode(b))
    write_set(folder, context, lambda limb: limb, secret_of(context), made)


def real(folder):
    """The real subring of degree n inside SEAL's ring of degree 2n.

    A ciphertext under a symmetric secret becomes one of the subring by the trace x + conj(x); it
    holds twice the message, so the message is halved first.
    """
    n = 2 << LOG_N
    half = [secrets.randbelow(3) - 1 for _ in range(n // 2)]
    secret = half + [0] + [-c for c in half[:0:-1]]
    context = Set(n, secret)
    a = sample(n // 2, 37, 257, 11, real=True)
    b = sample(n // 2, 53, 241, 7, real=True)
    made = []
    for values in (a, b):
        cipher = context.encrypt(context.encode([v / 2 for v in values]))
        polys = [
            [trace(limb, q) for limb, q in zip(poly, context.primes)]
            for poly in context.cipher_polys(cipher)
        ]
        made.append(context.load_cipher(cipher, polys))
    made = context.encode(a), *made
    write_set(folder, context, lambda limb: limb[: n // 2], secret, made)


def trace(limb, q):
    """x(X) + x(1/X) modulo X^n + 1."""
    mirrored = [limb[0]] + [-w for w in limb[:0:-1]]
    return [(w + m) % q for w, m in zip(limb, mirrored)]


if __name__ == "__main__":
    here = Path(__file__).parent
    standard(here / "standard")
    real(here / "real")
