package org.pocketlens.core;

import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;

/** Encodes pictures: MODEL PPM..., a line of numbers for each. Run by the tests of parity. */
public final class EncodePhotos {
    public static void main(String[] arguments) throws Exception {
        Path model = Paths.get(arguments[0]);
        String name = model.getFileName().toString();
        try (QueryEncoder encoder = QueryEncoder.open(Files.readAllBytes(model), name, 1)) {
            System.err.println(QueryEncoder.runtime() + ", encoder " + encoder.contract.encoder);
            for (int i = 1; i < arguments.length; i++) {
                StringBuilder line = new StringBuilder();
                for (float value : encoder.encode(readPpm(Paths.get(arguments[i])))) {
                    line.append(value).append(' ');
                }
                System.out.println(line);
            }
        }
    }

    static Photo readPpm(Path file) throws IOException {
        try (DataInputStream in =
                new DataInputStream(new BufferedInputStream(Files.newInputStream(file)))) {
            if (!readWord(in).equals("P6")) {
                throw new IOException(file + ": not a PPM file");
            }
            int width = Integer.parseInt(readWord(in));
            int height = Integer.parseInt(readWord(in));
            readWord(in);
            byte[] rgb = new byte[3 * width * height];
            in.readFully(rgb);
            return new Photo(width, height, rgb);
        }
    }

    private static String readWord(InputStream in) throws IOException {
        StringBuilder word = new StringBuilder();
        for (int c = in.read(); c > ' '; c = in.read()) {
            word.append((char) c);
        }
        return word.toString();
    }
}
