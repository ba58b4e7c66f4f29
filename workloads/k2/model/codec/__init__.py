"""Events as Avro messages and back, in columns: Arrow batches in, payloads out, and the reverse.

Pure: no Kafka, no registry, no clock. A payload is `0x00`, the schema id as four bytes big-endian, and the Avro body
(Confluent's wire format).
"""

from k2.model.codec.decode import Bad, Decoded, decode
from k2.model.codec.encode import Encoded, encode

__all__ = ["Bad", "Decoded", "Encoded", "decode", "encode"]
