package org.pocketlens.demo;

import android.content.ContentProvider;
import android.content.ContentValues;
import android.content.Context;
import android.database.Cursor;
import android.net.Uri;
import android.os.ParcelFileDescriptor;
import java.io.File;
import java.io.FileNotFoundException;

/**
 * The one file that a camera app may write to: so the demo needs no permission for storage, and what
 * was photographed for a search is not left among the user's pictures.
 */
public final class CaptureProvider extends ContentProvider {
    static final Uri PLACE = Uri.parse("content://org.pocketlens.demo.capture/picture.jpg");

    @Override
    public boolean onCreate() {
        return true;
    }

    @Override
    public ParcelFileDescriptor openFile(Uri uri, String mode) throws FileNotFoundException {
        if (!PLACE.equals(uri)) {
            throw new FileNotFoundException(uri.toString());
        }
        File file = place(getContext());
        return ParcelFileDescriptor.open(file, ParcelFileDescriptor.parseMode(mode));
    }

    /** Deletes what was photographed. */
    static void forget(Context context) {
        // Where there is nothing, nothing is left to do.
        place(context).delete();
    }

    private static File place(Context context) {
        return new File(context.getCacheDir(), "capture.jpg");
    }

    @Override
    public String getType(Uri uri) {
        return "image/jpeg";
    }

    @Override
    public Cursor query(Uri uri, String[] columns, String where, String[] values, String order) {
        return null;
    }

    @Override
    public Uri insert(Uri uri, ContentValues values) {
        return null;
    }

    @Override
    public int delete(Uri uri, String where, String[] values) {
        return 0;
    }

    @Override
    public int update(Uri uri, ContentValues changed, String where, String[] values) {
        return 0;
    }
}
