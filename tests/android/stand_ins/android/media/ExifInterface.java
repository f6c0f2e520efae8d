package android.media;

import java.io.IOException;
import java.io.InputStream;

public class ExifInterface {
    public static final String TAG_ORIENTATION = "Orientation";
    public static int orientation = 1;

    public ExifInterface(InputStream in) throws IOException {}

    public int getAttributeInt(String tag, int otherwise) {
        return orientation;
    }
}
