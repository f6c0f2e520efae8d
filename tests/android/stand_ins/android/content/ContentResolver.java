package android.content;

import android.net.Uri;
import java.io.FileInputStream;
import java.io.FileNotFoundException;
import java.io.InputStream;

public class ContentResolver {
    /** What the camera wrote. */
    public String captured;

    public final InputStream openInputStream(Uri uri) throws FileNotFoundException {
        boolean ofCamera = uri.toString().startsWith("content://");
        return new FileInputStream(ofCamera ? captured : uri.toString());
    }
}
