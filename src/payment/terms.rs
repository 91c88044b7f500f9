//! What this server takes: one token on one network, to one address.

use alloy_primitives::Address;

use super::authorization::{Domain, address};
use super::error::{PaymentError, cut};
use crate::base::time::Ttl;

/// The server's terms of payment, from its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// CAIP-2 network, `eip155:84532`.
    pub network: String,
    /// The token contract's address.
    pub asset: String,
    /// The token's EIP-712 domain name, as the contract has it: `USDC`.
    pub asset_name: String,
    /// The token's EIP-712 domain version: `2`.
    pub asset_version: String,
    /// The address that is paid. One for each instance: nothing else binds a payment to it.
    pub pay_to: String,
    /// How long an authorization may last.
    pub max_timeout: Ttl,
}

/// Networks whose money is worth nothing.
const TEST_CHAINS: [u64; 8] = [1337, 31337, 43113, 80002, 84532, 421_614, 11_155_111, 11_155_420];

impl Terms {
    /// USDC on Base Sepolia, a test network, payable to `pay_to` within two minutes.
    #[must_use]
    pub fn base_sepolia(pay_to: &str) -> Self {
        Self {
            network: "eip155:84532".to_owned(),
            asset: "0x036CbD53842c5426634e7929541eC2318f3dCF7e".to_owned(),
            asset_name: "USDC".to_owned(),
            asset_version: "2".to_owned(),
            pay_to: pay_to.to_owned(),
            max_timeout: Ttl::from_secs(120),
        }
    }

    /// Whether these terms can be used; call it once, at start.
    ///
    /// # Errors
    /// [`PaymentError::Terms`] names the field that is wrong.
    pub fn check(&self) -> Result<(), PaymentError> {
        self.domain()?;
        let pay_to = own_address("pay_to", &self.pay_to)?;
        if pay_to.is_zero() {
            return Err(wrong("pay_to", &self.pay_to));
        }
        // Below a minute the 30 s that must be left at the offer would refuse honest clients.
        if self.max_timeout < Ttl::from_secs(60) {
            return Err(wrong("max_timeout", &self.max_timeout.to_string()));
        }
        Ok(())
    }

    /// Whether the network is one whose money is worth nothing; unknown ones count as real.
    #[must_use]
    pub fn is_test_network(&self) -> bool {
        self.chain_id().is_ok_and(|id| TEST_CHAINS.contains(&id))
    }

    /// The EIP-712 domain that authorizations for the token are signed in.
    pub(super) fn domain(&self) -> Result<Domain, PaymentError> {
        let contract = own_address("asset", &self.asset)?;
        if contract.is_zero() {
            return Err(wrong("asset", &self.asset));
        }
        Ok(Domain {
            name: self.asset_name.clone(),
            version: self.asset_version.clone(),
            chain_id: self.chain_id()?,
            contract,
        })
    }

    fn chain_id(&self) -> Result<u64, PaymentError> {
        chain_id(&self.network).ok_or_else(|| wrong("network", &self.network))
    }
}

fn own_address(field: &'static str, text: &str) -> Result<Address, PaymentError> {
    address(field, text).map_err(|_| wrong(field, text))
}

fn wrong(field: &'static str, given: &str) -> PaymentError {
    PaymentError::Terms {
        field,
        given: cut(given),
    }
}

/// The chain id in a CAIP-2 network of the namespace `eip155`.
pub(super) fn chain_id(network: &str) -> Option<u64> {
    let digits = network.strip_prefix("eip155:")?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAY_TO: &str = "0x90F79bf6EB2c4f870365E785982E1f101E93b906";

    #[test]
    fn the_test_terms_are_usable() {
        let terms = Terms::base_sepolia(PAY_TO);
        assert_eq!(terms.check(), Ok(()));
        assert!(terms.is_test_network());
    }

    #[test]
    fn wrong_terms_are_refused_by_field() {
        let good = Terms::base_sepolia(PAY_TO);
        let zero = "0x0000000000000000000000000000000000000000".to_owned();
        let wrong = [
            (
                "network",
                Terms {
                    network: "base".to_owned(),
                    ..good.clone()
                },
            ),
            (
                "network",
                Terms {
                    network: "eip155:+1".to_owned(),
                    ..good.clone()
                },
            ),
            (
                "network",
                Terms {
                    network: "eip155:".to_owned(),
                    ..good.clone()
                },
            ),
            (
                "asset",
                Terms {
                    asset: zero.clone(),
                    ..good.clone()
                },
            ),
            (
                "asset",
                Terms {
                    asset: "0x036C".to_owned(),
                    ..good.clone()
                },
            ),
            (
                "pay_to",
                Terms {
                    pay_to: zero,
                    ..good.clone()
                },
            ),
            (
                "max_timeout",
                Terms {
                    max_timeout: Ttl::from_secs(20),
                    ..good
                },
            ),
        ];
        for (wanted, terms) in wrong {
            let refused = terms.check().unwrap_err();
            assert!(
                matches!(refused, PaymentError::Terms { field, .. } if field == wanted),
                "{refused}"
            );
        }
    }

    #[test]
    fn networks_with_real_or_unknown_money_are_not_test_networks() {
        for network in ["eip155:1", "eip155:8453", "eip155:137", "eip155:999999999", "solana:x"] {
            let terms = Terms {
                network: network.to_owned(),
                ..Terms::base_sepolia(PAY_TO)
            };
            assert!(!terms.is_test_network(), "{network}");
        }
    }
}
