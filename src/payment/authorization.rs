//! An EIP-3009 transfer authorization: its one spelling on the wire, the EIP-712 bytes that are signed, and who
//! signed them. Only signatures of a plain key are known; wallets that are contracts (ERC-1271) are refused.

use alloy_primitives::{Address, B256, Signature, U256, keccak256};
use data_encoding::HEXLOWER_PERMISSIVE;
use k256::ecdsa::SigningKey;
use serde::{Deserialize, Serialize};

use super::error::{PaymentError, cut};

/// The payload of the scheme `exact` as it stands in the JSON: all values are text.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Signed {
    pub(super) authorization: Spelled,
    pub(super) signature: String,
}

/// An authorization as it stands in the JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Spelled {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) value: String,
    pub(super) valid_after: String,
    pub(super) valid_before: String,
    pub(super) nonce: String,
}

/// An authorization's values. Times are whole seconds since 1970, the value atomic units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authorization {
    pub(super) from: Address,
    pub(super) to: Address,
    pub(super) value: u64,
    pub(super) valid_after: u64,
    pub(super) valid_before: u64,
    pub(super) nonce: B256,
}

/// The EIP-712 domain of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Domain {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) chain_id: u64,
    pub(super) contract: Address,
}

impl Authorization {
    /// Reads the values; every other spelling of a number, address or nonce is refused.
    pub(super) fn parse(spelled: &Spelled) -> Result<Self, PaymentError> {
        Ok(Self {
            from: address("from", &spelled.from)?,
            to: address("to", &spelled.to)?,
            value: number("value", &spelled.value)?,
            valid_after: number("validAfter", &spelled.valid_after)?,
            valid_before: number("validBefore", &spelled.valid_before)?,
            nonce: hexadecimal("nonce", &spelled.nonce, "0x and 64 hexadecimal digits")?.into(),
        })
    }

    /// The spelling of these values: lower case, decimal.
    pub(super) fn spell(&self) -> Spelled {
        Spelled {
            from: lower(&self.from),
            to: lower(&self.to),
            value: self.value.to_string(),
            valid_after: self.valid_after.to_string(),
            valid_before: self.valid_before.to_string(),
            nonce: self.nonce.to_string(),
        }
    }

    /// Checks that the payer signed this in `domain`.
    ///
    /// # Errors
    /// [`PaymentError::Signature`] for any other signer, length, `v`, or an `s` of the upper half (which a stranger
    /// can make from a good signature).
    pub(super) fn check(&self, domain: &Domain, signature: &str) -> Result<(), PaymentError> {
        let raw: [u8; 65] = hexadecimal("signature", signature, "0x and 130 hexadecimal digits")?;
        if !matches!(raw, [.., 27 | 28]) {
            return Err(PaymentError::Signature("its last byte is not 27 or 28"));
        }
        let unreadable = PaymentError::Signature("it is not an ECDSA signature");
        let signature = Signature::from_raw_array(&raw).map_err(|_| unreadable.clone())?;
        if signature.normalize_s().is_some() {
            return Err(PaymentError::Signature("its `s` is in the upper half"));
        }
        let signer = signature
            .recover_address_from_prehash(&self.digest(domain))
            .map_err(|_| unreadable)?;
        if signer == self.from {
            Ok(())
        } else {
            Err(PaymentError::Signature("the payer did not sign this"))
        }
    }

    /// Signs this in `domain`: `0x`, then r, s and v in hexadecimal.
    pub(super) fn sign(&self, domain: &Domain, key: &SigningKey) -> Result<String, PaymentError> {
        key.sign_prehash_recoverable(self.digest(domain).as_slice())
            .map(|signed| Signature::from(signed).to_string())
            .map_err(|_| PaymentError::CannotPay("the key does not sign"))
    }

    /// The EIP-712 digest of this in `domain`.
    fn digest(&self, domain: &Domain) -> B256 {
        let message = keccak256(
            [
                keccak256(TRANSFER).0,
                self.from.into_word().0,
                self.to.into_word().0,
                word(self.value),
                word(self.valid_after),
                word(self.valid_before),
                self.nonce.0,
            ]
            .concat(),
        );
        keccak256(
            [
                b"\x19\x01".as_slice(),
                domain.separator().as_slice(),
                message.as_slice(),
            ]
            .concat(),
        )
    }
}

const TRANSFER: &str = "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,\
                        uint256 validBefore,bytes32 nonce)";
const DOMAIN: &str = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";

impl Domain {
    fn separator(&self) -> B256 {
        keccak256(
            [
                keccak256(DOMAIN).0,
                keccak256(&self.name).0,
                keccak256(&self.version).0,
                word(self.chain_id),
                self.contract.into_word().0,
            ]
            .concat(),
        )
    }
}

fn word(number: u64) -> [u8; 32] {
    U256::from(number).to_be_bytes()
}

/// An address in lower case, not EIP-55.
pub(super) fn lower(address: &Address) -> String {
    format!("0x{}", HEXLOWER_PERMISSIVE.encode(address.as_slice()))
}

/// Reads an address in any case.
pub(super) fn address(field: &'static str, text: &str) -> Result<Address, PaymentError> {
    hexadecimal(field, text, "0x and 40 hexadecimal digits").map(Address::new)
}

fn hexadecimal<const N: usize>(field: &'static str, text: &str, wanted: &'static str) -> Result<[u8; N], PaymentError> {
    text.strip_prefix("0x")
        .and_then(|digits| HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok())
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| spelling(field, text, wanted))
}

/// Reads decimal digits without sign, space, leading zero or exponent.
pub(super) fn number(field: &'static str, text: &str) -> Result<u64, PaymentError> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse()
        .ok()
        .filter(|_| plain)
        .ok_or_else(|| spelling(field, text, "a number in plain decimal digits below 2^64"))
}

fn spelling(field: &'static str, given: &str, wanted: &'static str) -> PaymentError {
    PaymentError::Spelling {
        field,
        given: cut(given),
        wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with viem 2.54.0 (`signTypedData`) by the key 0x11…11.
    const VIEM: &str = "0xe8382957d409582490d2e56ce4d09437ae20bf6fab22990637726c6b396dd9d6\
                        385a4a856a9a6648016713b7f70c7a6368d581a3b7bf3082b457c7978d6218641c";

    fn example() -> (Authorization, Domain) {
        let authorization = Authorization {
            from: address("from", "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A").unwrap(),
            to: address("to", "0x90F79bf6EB2c4f870365E785982E1f101E93b906").unwrap(),
            value: 10_000,
            valid_after: 0,
            valid_before: 1_763_668_387,
            nonce: B256::repeat_byte(0x22),
        };
        let domain = Domain {
            name: "USDC".to_owned(),
            version: "2".to_owned(),
            chain_id: 84_532,
            contract: address("asset", "0x036CbD53842c5426634e7929541eC2318f3dCF7e").unwrap(),
        };
        (authorization, domain)
    }

    #[test]
    fn signs_the_bytes_that_another_implementation_signs() {
        let (authorization, domain) = example();
        let key = SigningKey::from_slice(&[0x11; 32]).unwrap();
        assert_eq!(authorization.sign(&domain, &key).unwrap(), VIEM);
        assert_eq!(authorization.check(&domain, VIEM), Ok(()));
    }

    #[test]
    fn every_value_and_the_whole_domain_are_signed() {
        let (good, domain) = example();
        let others = [
            Authorization {
                from: Address::repeat_byte(1),
                ..good.clone()
            },
            Authorization {
                to: Address::repeat_byte(1),
                ..good.clone()
            },
            Authorization {
                value: 10_001,
                ..good.clone()
            },
            Authorization {
                valid_after: 1,
                ..good.clone()
            },
            Authorization {
                valid_before: 1_763_668_388,
                ..good.clone()
            },
            Authorization {
                nonce: B256::repeat_byte(0x23),
                ..good.clone()
            },
        ];
        for other in others {
            assert!(other.check(&domain, VIEM).is_err(), "{other:?}");
        }
        let domains = [
            Domain {
                name: "USD Coin".to_owned(),
                ..domain.clone()
            },
            Domain {
                version: "1".to_owned(),
                ..domain.clone()
            },
            Domain {
                chain_id: 8453,
                ..domain.clone()
            },
            Domain {
                contract: Address::repeat_byte(1),
                ..domain
            },
        ];
        for other in domains {
            assert!(good.check(&other, VIEM).is_err(), "{other:?}");
        }
    }

    #[test]
    fn numbers_have_one_spelling() {
        assert_eq!(number("value", "0"), Ok(0));
        assert_eq!(number("value", "18446744073709551615"), Ok(u64::MAX));
        for text in [
            "",
            "-1",
            "+1",
            " 1",
            "1 ",
            "01",
            "00",
            "1e4",
            "0x1",
            "1.0",
            "١",
            "18446744073709551616",
        ] {
            assert!(number("value", text).is_err(), "{text}");
        }
    }

    #[test]
    fn spelling_and_parsing_agree() {
        let (authorization, _) = example();
        assert_eq!(Authorization::parse(&authorization.spell()), Ok(authorization));
    }
}
