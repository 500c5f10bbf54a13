//! Reason codes of MQTT 5 (2.4) and what they become in 3.x.

macro_rules! reason_codes {
    ($($name:ident = $code:literal),+ $(,)?) => {
        /// A reason code, by the standard's name.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ReasonCode { $($name = $code),+ }

        impl ReasonCode {
            /// All codes, in ascending order.
            pub const ALL: &'static [ReasonCode] = &[$(ReasonCode::$name),+];

            pub fn from_u8(code: u8) -> Option<ReasonCode> {
                match code {
                    $($code => Some(ReasonCode::$name),)+
                    _ => None,
                }
            }
        }
    };
}

reason_codes! {
    Success = 0x00, GrantedQoS1 = 0x01, GrantedQoS2 = 0x02, DisconnectWithWill = 0x04,
    NoMatchingSubscribers = 0x10, NoSubscriptionExisted = 0x11, ContinueAuthentication = 0x18,
    ReAuthenticate = 0x19, UnspecifiedError = 0x80, MalformedPacket = 0x81, ProtocolError = 0x82,
    ImplementationSpecificError = 0x83, UnsupportedProtocolVersion = 0x84, ClientIdentifierNotValid = 0x85,
    BadUserNameOrPassword = 0x86, NotAuthorized = 0x87, ServerUnavailable = 0x88, ServerBusy = 0x89,
    Banned = 0x8A, ServerShuttingDown = 0x8B, BadAuthenticationMethod = 0x8C, KeepAliveTimeout = 0x8D,
    SessionTakenOver = 0x8E, TopicFilterInvalid = 0x8F, TopicNameInvalid = 0x90, PacketIdentifierInUse = 0x91,
    PacketIdentifierNotFound = 0x92, ReceiveMaximumExceeded = 0x93, TopicAliasInvalid = 0x94,
    PacketTooLarge = 0x95, MessageRateTooHigh = 0x96, QuotaExceeded = 0x97, AdministrativeAction = 0x98,
    PayloadFormatInvalid = 0x99, RetainNotSupported = 0x9A, QoSNotSupported = 0x9B, UseAnotherServer = 0x9C,
    ServerMoved = 0x9D, SharedSubscriptionsNotSupported = 0x9E, ConnectionRateExceeded = 0x9F,
    MaximumConnectTime = 0xA0, SubscriptionIdentifiersNotSupported = 0xA1,
    WildcardSubscriptionsNotSupported = 0xA2,
}

impl ReasonCode {
    /// 0x80 and above.
    #[inline]
    pub fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// The CONNACK return code of 3.x that says the same; None where only a close can say it.
    pub fn connack_code_v3(self) -> Option<u8> {
        match self {
            ReasonCode::Success => Some(0),
            ReasonCode::UnsupportedProtocolVersion => Some(1),
            ReasonCode::ClientIdentifierNotValid => Some(2),
            ReasonCode::ServerUnavailable
            | ReasonCode::ServerBusy
            | ReasonCode::QuotaExceeded
            | ReasonCode::ConnectionRateExceeded => Some(3),
            ReasonCode::BadUserNameOrPassword => Some(4),
            ReasonCode::NotAuthorized | ReasonCode::Banned => Some(5),
            _ => None,
        }
    }

    /// The reason for a return code of a 3.x CONNACK.
    pub fn from_connack_code_v3(code: u8) -> Option<ReasonCode> {
        Some(match code {
            0 => ReasonCode::Success,
            1 => ReasonCode::UnsupportedProtocolVersion,
            2 => ReasonCode::ClientIdentifierNotValid,
            3 => ReasonCode::ServerUnavailable,
            4 => ReasonCode::BadUserNameOrPassword,
            5 => ReasonCode::NotAuthorized,
            _ => return None,
        })
    }
}
