package k2bench;

import java.io.IOException;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.time.Instant;
import java.time.LocalDate;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.apache.avro.LogicalType;
import org.apache.avro.LogicalTypes;
import org.apache.avro.Schema;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.connect.data.SchemaAndValue;
import org.apache.kafka.connect.errors.DataException;
import org.apache.kafka.connect.storage.Converter;

/**
 * Confluent-framed Avro to a map of Java values, for Kafka Connect. The schema is given (`avro.schema`), not looked up.
 *
 * The readers are built once per schema and decode straight into the map: the peer should not be slowed by its converter.
 */
public final class AvroMapConverter implements Converter {
  private interface Reader {
    Object read(BinaryDecoder in) throws IOException;
  }

  private Reader reader;
  private BinaryDecoder decoder;

  @Override
  public void configure(Map<String, ?> configs, boolean isKey) {
    Object schema = configs.get("avro.schema");
    reader = isKey ? null : readerOf(new Schema.Parser().parse(String.valueOf(schema)));
  }

  @Override
  public byte[] fromConnectData(String topic, org.apache.kafka.connect.data.Schema schema, Object value) {
    throw new DataException("this converter only reads");
  }

  @Override
  public SchemaAndValue toConnectData(String topic, byte[] value) {
    if (value == null || reader == null) {
      return SchemaAndValue.NULL;
    }
    if (value.length < 5 || value[0] != 0) {
      throw new DataException("not Confluent framing");
    }
    try {
      decoder = DecoderFactory.get().binaryDecoder(value, 5, value.length - 5, decoder);
      return new SchemaAndValue(null, reader.read(decoder));
    } catch (IOException error) {
      throw new DataException(error);
    }
  }

  private static Reader readerOf(Schema schema) {
    LogicalType logical = schema.getLogicalType();
    switch (schema.getType()) {
      case RECORD:
        return record(schema);
      case UNION:
        return union(schema);
      case ARRAY:
        return array(readerOf(schema.getElementType()));
      case MAP:
        return map(readerOf(schema.getValueType()));
      case ENUM:
        List<String> symbols = schema.getEnumSymbols();
        return in -> symbols.get(in.readEnum());
      case STRING:
        return logical != null && "uuid".equals(logical.getName())
            ? in -> UUID.fromString(in.readString())
            : BinaryDecoder::readString;
      case BYTES:
        if (logical instanceof LogicalTypes.Decimal decimal) {
          int scale = decimal.getScale();
          return in -> {
            ByteBuffer bytes = in.readBytes(null);
            byte[] unscaled = new byte[bytes.remaining()];
            bytes.get(unscaled);
            return new BigDecimal(new BigInteger(unscaled), scale);
          };
        }
        return in -> in.readBytes(null);
      case LONG:
        if (logical instanceof LogicalTypes.TimestampMicros) {
          return in -> {
            long micros = in.readLong();
            return OffsetDateTime.ofInstant(
                Instant.ofEpochSecond(Math.floorDiv(micros, 1_000_000L), Math.floorMod(micros, 1_000_000L) * 1_000L),
                ZoneOffset.UTC);
          };
        }
        return BinaryDecoder::readLong;
      case INT:
        return logical instanceof LogicalTypes.Date ? in -> LocalDate.ofEpochDay(in.readInt()) : BinaryDecoder::readInt;
      case DOUBLE:
        return BinaryDecoder::readDouble;
      case FLOAT:
        return BinaryDecoder::readFloat;
      case BOOLEAN:
        return BinaryDecoder::readBoolean;
      case NULL:
        return in -> null;
      default:
        throw new DataException("no reader for " + schema);
    }
  }

  private static Reader record(Schema schema) {
    List<Schema.Field> fields = schema.getFields();
    String[] names = new String[fields.size()];
    Reader[] readers = new Reader[fields.size()];
    for (int i = 0; i < names.length; i++) {
      names[i] = fields.get(i).name();
      readers[i] = readerOf(fields.get(i).schema());
    }
    return in -> {
      Map<String, Object> row = new LinkedHashMap<>(names.length * 2);
      for (int i = 0; i < names.length; i++) {
        row.put(names[i], readers[i].read(in));
      }
      return row;
    };
  }

  private static Reader union(Schema schema) {
    Reader[] branches = schema.getTypes().stream().map(AvroMapConverter::readerOf).toArray(Reader[]::new);
    return in -> branches[in.readIndex()].read(in);
  }

  private static Reader array(Reader item) {
    return in -> {
      List<Object> items = new ArrayList<>();
      for (long left = in.readArrayStart(); left != 0; left = in.arrayNext()) {
        for (long i = 0; i < left; i++) {
          items.add(item.read(in));
        }
      }
      return items;
    };
  }

  private static Reader map(Reader value) {
    return in -> {
      Map<String, Object> entries = new LinkedHashMap<>();
      for (long left = in.readMapStart(); left != 0; left = in.mapNext()) {
        for (long i = 0; i < left; i++) {
          entries.put(in.readString(), value.read(in));
        }
      }
      return entries;
    };
  }
}
