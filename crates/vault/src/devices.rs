//! Who may connect: devices and backend users, by the fingerprint of their certificate.

use rusqlite::{Connection, OptionalExtension, Row, params};
use scuro_wire::tls::{Peer, VAULT_NAME};
use scuro_wire::{Digest, Name};
use zeroize::Zeroizing;

use crate::authority::DAY;
use crate::error::VaultError;
use crate::vault::Vault;

/// What a peer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerRole {
    /// Registers queries and sends encrypted inferences.
    Device,
    /// Reads results and metrics.
    User,
}

impl PeerRole {
    /// The word in the registry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::User => "user",
        }
    }
}

/// One row of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerRecord {
    /// Name in the certificate.
    pub name: Name,
    /// What it may do.
    pub role: PeerRole,
    /// BLAKE3 of its present certificate.
    pub fingerprint: Digest,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Seconds since 1970.
    pub enrolled: u64,
    /// Last second of its certificate.
    pub expires: u64,
    /// Where a device listens, `host:port`.
    pub address: Option<String>,
}

/// A request for a certificate.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// Name for the certificate.
    pub name: Name,
    /// What its owner may do.
    pub role: PeerRole,
    /// Life of the certificate.
    pub days: u64,
    /// Where a device will listen, `host:port`.
    pub address: Option<String>,
}

/// What an enrolled peer needs.
pub struct Bundle {
    /// The authority's certificate.
    pub authority_pem: Vec<u8>,
    /// Its own.
    pub certificate_pem: String,
    /// Its private key, which the vault does not keep.
    pub key_pem: Zeroizing<String>,
    /// What the registry says now.
    pub record: PeerRecord,
}

impl Vault {
    /// Issues a certificate and enters it; one issued to this name before is worthless then.
    ///
    /// # Errors
    /// [`VaultError::ReservedName`], [`VaultError::Wire`] for a name that TLS cannot carry,
    /// [`VaultError::Certificate`].
    pub fn enrol(&self, enrolment: &Enrolment, now: u64) -> Result<Bundle, VaultError> {
        enrolment.name.check_for_certificate()?;
        if enrolment.name.as_str() == VAULT_NAME {
            let name = enrolment.name.to_string();
            return Err(VaultError::ReservedName { name });
        }
        let authority_pem = self.authority_pem()?;
        let expires = now + enrolment.days.max(1) * DAY;
        self.database.write(|db| {
            let issued = self.issue(db, enrolment.name.as_str(), now, expires)?;
            let record = PeerRecord {
                name: enrolment.name.clone(),
                role: enrolment.role,
                fingerprint: issued.fingerprint,
                revoked: false,
                enrolled: now,
                expires: issued.expires,
                address: enrolment.address.clone(),
            };
            insert(db, &record)?;
            Ok(Bundle {
                authority_pem,
                certificate_pem: issued.certificate_pem,
                key_pem: issued.key_pem,
                record,
            })
        })
    }

    /// Takes a peer's rights away, at once.
    ///
    /// # Errors
    /// [`VaultError::NotFound`].
    pub fn revoke(&self, name: &Name) -> Result<(), VaultError> {
        let sql = "UPDATE peers SET state = 'revoked' WHERE name = ?1";
        let changed = self
            .database
            .write(|db| Ok(db.execute(sql, [name.as_str()])?))?;
        match changed {
            0 => Err(VaultError::not_found("device or user", name)),
            _ => Ok(()),
        }
    }

    /// Everyone who was ever enrolled, by name.
    ///
    /// # Errors
    /// [`VaultError::Database`].
    pub fn peers(&self) -> Result<Vec<PeerRecord>, VaultError> {
        self.database.read(|db| {
            let mut statement = db.prepare(&format!("{SELECT} ORDER BY name"))?;
            let rows = statement.query_map([], read_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// One of them.
    ///
    /// # Errors
    /// [`VaultError::NotFound`].
    pub fn peer(&self, name: &Name) -> Result<PeerRecord, VaultError> {
        let found = self.database.read(|db| find(db, name))?;
        found.ok_or_else(|| VaultError::not_found("device or user", name))
    }

    /// Whether the owner of this verified certificate may act in `role` now.
    ///
    /// # Errors
    /// [`VaultError::Peer`], [`VaultError::WrongRole`].
    pub fn authorise(
        &self,
        peer: &Peer,
        role: PeerRole,
        now: u64,
    ) -> Result<PeerRecord, VaultError> {
        let refuse = |reason| VaultError::Peer {
            name: peer.name.to_string(),
            reason,
        };
        let found = self.database.read(|db| find(db, &peer.name))?;
        let record = found.ok_or_else(|| refuse("unknown"))?;
        if record.revoked {
            return Err(refuse("revoked"));
        }
        if record.fingerprint != peer.fingerprint {
            return Err(refuse("replaced"));
        }
        if now > record.expires {
            return Err(refuse("expired"));
        }
        if record.role != role {
            return Err(VaultError::WrongRole {
                name: peer.name.to_string(),
                expected: role.as_str(),
            });
        }
        Ok(record)
    }

    /// A device that is not revoked.
    pub(crate) fn active_device(&self, name: &Name) -> Result<PeerRecord, VaultError> {
        let record = self.peer(name)?;
        if record.role != PeerRole::Device {
            return Err(VaultError::WrongRole {
                name: name.to_string(),
                expected: PeerRole::Device.as_str(),
            });
        }
        if record.revoked {
            return Err(VaultError::Peer {
                name: name.to_string(),
                reason: "revoked",
            });
        }
        Ok(record)
    }
}

const SELECT: &str = "SELECT name, role, fingerprint, state, enrolled, expires, address FROM peers";

fn find(db: &Connection, name: &Name) -> Result<Option<PeerRecord>, VaultError> {
    let sql = format!("{SELECT} WHERE name = ?1");
    Ok(db.query_row(&sql, [name.as_str()], read_row).optional()?)
}

fn insert(db: &Connection, record: &PeerRecord) -> Result<(), VaultError> {
    db.execute(
        "INSERT INTO peers VALUES (?1, ?2, ?3, 'active', ?4, ?5, ?6)
         ON CONFLICT(name) DO UPDATE SET role = excluded.role, state = 'active',
             fingerprint = excluded.fingerprint, enrolled = excluded.enrolled,
             expires = excluded.expires, address = coalesce(excluded.address, address)",
        params![
            record.name.as_str(),
            record.role.as_str(),
            record.fingerprint.0,
            record.enrolled as i64,
            record.expires as i64,
            record.address,
        ],
    )?;
    Ok(())
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<PeerRecord> {
    let role: String = row.get(1)?;
    let state: String = row.get(3)?;
    Ok(PeerRecord {
        name: text(row, 0)?,
        role: match role.as_str() {
            "device" => PeerRole::Device,
            _ => PeerRole::User,
        },
        fingerprint: Digest(row.get(2)?),
        revoked: state != "active",
        enrolled: row.get::<_, i64>(4)? as u64,
        expires: row.get::<_, i64>(5)? as u64,
        address: row.get(6)?,
    })
}

/// A column of text in a form of its own.
pub(crate) fn text<T: std::str::FromStr>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    text.parse().map_err(|_| {
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::InvalidColumnType(column, text, kind)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::KeySource;
    use scuro_wire::WireError;
    use scuro_wire::tls::Identity;

    const NOW: u64 = 1_800_000_000;

    fn vault(folder: &std::path::Path) -> Vault {
        let key = KeySource::File(Vault::default_key_file(folder));
        Vault::init(folder, &key, NOW).expect("a vault")
    }

    fn enrol(vault: &Vault, name: &str, role: PeerRole) -> Peer {
        let enrolment = Enrolment {
            name: Name::new(name).expect("a name"),
            role,
            days: 30,
            address: Some("127.0.0.1:1".to_string()),
        };
        let bundle = vault.enrol(&enrolment, NOW).expect("enrolled");
        let identity = Identity::from_pem(
            &bundle.authority_pem,
            bundle.certificate_pem.as_bytes(),
            bundle.key_pem.as_bytes(),
        );
        identity.expect("a usable bundle").peer().expect("peer")
    }

    fn reason(found: Result<PeerRecord, VaultError>) -> &'static str {
        match found {
            Ok(_) => "in",
            Err(VaultError::Peer { reason, .. }) => reason,
            Err(_) => "role",
        }
    }

    #[test]
    fn a_certificate_counts_until_it_is_replaced_revoked_or_expired() {
        let desk = tempfile::tempdir().expect("folder");
        let vault = vault(desk.path());
        let first = enrol(&vault, "cam-7", PeerRole::Device);
        let may = |peer: &Peer, now| reason(vault.authorise(peer, PeerRole::Device, now));
        assert_eq!(may(&first, NOW), "in");
        assert_eq!(may(&first, NOW + 31 * DAY), "expired");
        assert_eq!(reason(vault.authorise(&first, PeerRole::User, NOW)), "role");
        let second = enrol(&vault, "cam-7", PeerRole::Device);
        assert_eq!((may(&first, NOW), may(&second, NOW)), ("replaced", "in"));
        vault.revoke(&second.name).expect("revoked");
        assert_eq!(may(&second, NOW), "revoked");
        let stranger = Peer {
            name: Name::new("cam-8").expect("a name"),
            ..first
        };
        assert_eq!(may(&stranger, NOW), "unknown");
        assert!(vault.revoke(&stranger.name).is_err());
    }

    #[test]
    fn a_number_is_no_name_for_a_device_as_no_certificate_could_carry_it() {
        let desk = tempfile::tempdir().expect("folder");
        let enrolment = Enrolment {
            name: Name::new("42").expect("a name"),
            role: PeerRole::Device,
            days: 1,
            address: None,
        };
        let vault = vault(desk.path());
        let found = vault.enrol(&enrolment, NOW).map(|bundle| bundle.record);
        let expected = WireError::NumericName { found: "42".into() };
        assert!(matches!(found, Err(VaultError::Wire(error)) if error == expected));
        assert!(vault.peers().expect("list").is_empty());
    }

    #[test]
    fn nobody_can_be_called_as_the_vault() {
        let desk = tempfile::tempdir().expect("folder");
        let enrolment = Enrolment {
            name: Name::new(VAULT_NAME).expect("a name"),
            role: PeerRole::Device,
            days: 1,
            address: None,
        };
        let found = vault(desk.path()).enrol(&enrolment, NOW);
        assert!(matches!(found, Err(VaultError::ReservedName { .. })));
    }
}
