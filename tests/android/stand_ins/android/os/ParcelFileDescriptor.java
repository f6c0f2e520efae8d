package android.os;

import java.io.File;

public class ParcelFileDescriptor {
    public static ParcelFileDescriptor open(File file, int mode) {
        return new ParcelFileDescriptor();
    }

    public static int parseMode(String mode) {
        return 0;
    }
}
