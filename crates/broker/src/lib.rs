//! flowstone-broker
