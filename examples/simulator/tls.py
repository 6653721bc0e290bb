"""A certificate authority of the world's own, and a wildcard certificate for its public names."""

import datetime as dt
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from examples.simulator.clock import real_time

VALID = dt.timedelta(days=3650)


def certificates(folder: Path, domains: list[str]) -> tuple[Path, Path, Path]:
    """(CA file, certificate, key) for `*.<domain>` of each domain; kept when they are there already."""
    ca_file, cert_file, key_file = folder / "ca.pem", folder / "outside.pem", folder / "outside.key"
    if not all(file.exists() for file in (ca_file, cert_file, key_file)):
        folder.mkdir(parents=True, exist_ok=True)
        ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        ca = _authority(ca_key)
        leaf = _leaf(ca, ca_key, key, domains)
        key_file.write_bytes(_pem(key))
        key_file.chmod(0o600)
        cert_file.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    return ca_file, cert_file, key_file


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _begun(subject: str, issuer: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = real_time()
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = _begun("Make-believe authority", "Make-believe authority", key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.add_extension(usage, critical=True).sign(key, hashes.SHA256())


def _leaf(
    ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey, key: ec.EllipticCurvePrivateKey, domains: list[str]
) -> x509.Certificate:
    names = x509.SubjectAlternativeName([x509.DNSName(f"*.{domain}") for domain in domains])
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    builder = _begun("Web gateways", "Make-believe authority", key.public_key())
    builder = builder.add_extension(names, critical=False).add_extension(issuer_key, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    return builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False).sign(
        ca_key, hashes.SHA256()
    )
