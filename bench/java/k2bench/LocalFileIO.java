package k2bench;

import java.io.File;
import java.io.UncheckedIOException;
import java.io.IOException;
import java.nio.file.Path;
import org.apache.iceberg.Files;
import org.apache.iceberg.io.FileIO;
import org.apache.iceberg.io.InputFile;
import org.apache.iceberg.io.OutputFile;

/**
 * Files of this machine's disk, without Hadoop's file systems: those of 3.4 ask a security manager that Java 25 no longer
 * has. There are no checksum files either, which Hadoop's local file system writes beside every file.
 */
public final class LocalFileIO implements FileIO {
  @Override
  public InputFile newInputFile(String path) {
    return Files.localInput(path(path).toFile());
  }

  @Override
  public OutputFile newOutputFile(String path) {
    // Made here: Iceberg takes it for an error when another task has made the folder meanwhile.
    File file = path(path).toFile();
    file.getParentFile().mkdirs();
    return Files.localOutput(file);
  }

  @Override
  public void deleteFile(String path) {
    File file = path(path).toFile();
    try {
      java.nio.file.Files.deleteIfExists(file.toPath());
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  private static Path path(String location) {
    return Path.of(location.replaceFirst("^file:/*", "/"));
  }
}
