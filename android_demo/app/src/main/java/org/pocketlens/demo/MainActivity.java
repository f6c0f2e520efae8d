package org.pocketlens.demo;

import android.app.Activity;
import android.content.ActivityNotFoundException;
import android.content.ClipData;
import android.content.Intent;
import android.graphics.Bitmap;
import android.net.Uri;
import android.os.Build;
import android.os.Bundle;
import android.provider.MediaStore;
import android.view.View;
import android.widget.EditText;
import android.widget.ImageView;
import android.widget.ListView;
import android.widget.TextView;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import org.pocketlens.core.Encoders;
import org.pocketlens.core.LatencyRecord;
import org.pocketlens.core.LensException;
import org.pocketlens.core.Photo;
import org.pocketlens.core.QueryEncoder;
import org.pocketlens.core.SearchClient;

/** Takes a picture from gallery or camera, encodes it here, and shows what the server finds. */
public final class MainActivity extends Activity {
    private static final int GALLERY = 1;
    private static final int CAMERA = 2;
    private static final int ANSWERS = 12;
    private static final int TIMEOUT_MS = 10_000;
    private static final int ROUNDS = 30;
    private static final int PREVIEW_SIDE = 1024;
    private static final String BUNDLE = "query/";

    private final ExecutorService encoding = Executors.newSingleThreadExecutor();
    private final ExecutorService fetching = Executors.newSingleThreadExecutor();
    private Settings settings;
    private AnswerAdapter answers;
    // On the encoding thread only.
    private Encoders encoders;
    private Map<String, Double> measured;
    private Uri last;

    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        setContentView(R.layout.main);
        settings = new Settings(this);
        answers = new AnswerAdapter(this, fetching);
        ((ListView) findViewById(R.id.answers)).setAdapter(answers);
        ((EditText) findViewById(R.id.server)).setText(settings.server());
        ((EditText) findViewById(R.id.budget)).setText(String.valueOf(settings.budgetMs()));
        connect(R.id.gallery, new Runnable() {
            @Override
            public void run() {
                choosePicture();
            }
        });
        connect(R.id.camera, new Runnable() {
            @Override
            public void run() {
                takePicture();
            }
        });
        connect(R.id.measure, new Runnable() {
            @Override
            public void run() {
                measure();
            }
        });
    }

    @Override
    protected void onPause() {
        super.onPause();
        keepSettings();
    }

    @Override
    protected void onDestroy() {
        super.onDestroy();
        if (isFinishing()) {
            CaptureProvider.forget(this);
        }
        fetching.shutdownNow();
        encoding.execute(new Runnable() {
            @Override
            public void run() {
                if (encoders != null) {
                    encoders.close();
                }
            }
        });
        encoding.shutdown();
    }

    @Override
    protected void onActivityResult(int request, int result, Intent data) {
        super.onActivityResult(request, result, data);
        if (result != RESULT_OK) {
            return;
        }
        if (request == CAMERA) {
            look(CaptureProvider.PLACE);
        } else if (data != null && data.getData() != null) {
            look(data.getData());
        }
    }

    private void choosePicture() {
        Intent intent = new Intent(Intent.ACTION_GET_CONTENT);
        intent.setType("image/*");
        intent.addCategory(Intent.CATEGORY_OPENABLE);
        start(intent, GALLERY, R.string.no_gallery);
    }

    private void takePicture() {
        // A camera that writes nothing must not give the picture before.
        CaptureProvider.forget(this);
        Intent intent = new Intent(MediaStore.ACTION_IMAGE_CAPTURE);
        intent.putExtra(MediaStore.EXTRA_OUTPUT, CaptureProvider.PLACE);
        intent.addFlags(
                Intent.FLAG_GRANT_WRITE_URI_PERMISSION | Intent.FLAG_GRANT_READ_URI_PERMISSION);
        intent.setClipData(ClipData.newRawUri("", CaptureProvider.PLACE));
        start(intent, CAMERA, R.string.no_camera);
    }

    private void start(Intent intent, int request, int otherwise) {
        try {
            startActivityForResult(intent, request);
        } catch (ActivityNotFoundException | SecurityException error) {
            say(getString(otherwise));
        }
    }

    /** Encodes a picture, searches with its vector, then measures what encoders cost here. */
    private void look(final Uri uri) {
        keepSettings();
        last = uri;
        say(getString(R.string.encoding));
        inBackground(new Task() {
            @Override
            public void run() throws LensException {
                search(uri);
            }
        });
    }

    private void search(Uri uri) throws LensException {
        QueryEncoder encoder = openEncoders().open(settings.budgetMs());
        long started = System.nanoTime();
        Photo photo = Pictures.read(getContentResolver(), uri, encoder.contract);
        long decoded = System.nanoTime();
        float[] vector = encoder.encode(photo);
        long encoded = System.nanoTime();
        show(photo);
        SearchClient client = new SearchClient(settings.server(), TIMEOUT_MS);
        List<SearchClient.Answer> found = client.search(vector, encoder.contract.space, ANSWERS);
        show(found, client, getString(
                R.string.found, found.size(), toMs(decoded - started), toMs(encoded - decoded),
                toMs(System.nanoTime() - encoded), client.sentBytes()));
        encoders.improve(photo, settings.budgetMs());
        settings.keepMeasured(measured);
    }

    /** Times the encoder in use on the last picture, and shares the record. */
    private void measure() {
        if (last == null) {
            say(getString(R.string.picture_first));
            return;
        }
        keepSettings();
        say(getString(R.string.measuring));
        final Uri uri = last;
        inBackground(new Task() {
            @Override
            public void run() throws LensException {
                share(time(uri));
            }
        });
    }

    private String time(Uri uri) throws LensException {
        QueryEncoder encoder = openEncoders().open(settings.budgetMs());
        LatencyRecord record = new LatencyRecord();
        for (int round = -1; round < ROUNDS; round++) {
            long started = System.nanoTime();
            Photo photo = Pictures.read(getContentResolver(), uri, encoder.contract);
            long decoded = System.nanoTime();
            encoder.encode(photo);
            if (round >= 0) {
                record.add("decode", toMs(decoded - started));
                record.add("network", toMs(System.nanoTime() - decoded));
            }
        }
        int cores = Runtime.getRuntime().availableProcessors();
        String device = Build.MANUFACTURER + " " + Build.MODEL + ", Android " + Build.VERSION.RELEASE;
        return record.write(device, encoders.current(), cores, "the user's");
    }

    private void share(final String record) {
        onScreen(new Runnable() {
            @Override
            public void run() {
                say("");
                Intent intent = new Intent(Intent.ACTION_SEND);
                // Few apps take JSON by its name.
                intent.setType("text/plain");
                intent.putExtra(Intent.EXTRA_TEXT, record);
                startActivity(Intent.createChooser(intent, getString(R.string.share)));
            }
        });
    }

    private Encoders openEncoders() throws LensException {
        if (encoders == null) {
            measured = settings.measured();
            encoders = new Encoders(new Encoders.Source() {
                @Override
                public byte[] read(String name) throws IOException {
                    return readAsset(BUNDLE + name);
                }
            }, measured);
        }
        return encoders;
    }

    private byte[] readAsset(String name) throws IOException {
        try (InputStream in = getAssets().open(name)) {
            ByteArrayOutputStream found = new ByteArrayOutputStream(Math.max(in.available(), 1 << 14));
            byte[] part = new byte[1 << 16];
            for (int n = in.read(part); n >= 0; n = in.read(part)) {
                found.write(part, 0, n);
            }
            return found.toByteArray();
        }
    }

    private interface Task {
        void run() throws LensException;
    }

    private void inBackground(final Task task) {
        encoding.execute(new Runnable() {
            @Override
            public void run() {
                try {
                    task.run();
                } catch (LensException error) {
                    sayFromThere(error.getMessage());
                } catch (RuntimeException | Error error) {
                    // Of memory, say, or a library that does not load: told, and the app goes on.
                    sayFromThere(getString(R.string.failed, error.toString()));
                }
            }
        });
    }

    private void show(Photo photo) {
        Photo small = photo.preview(PREVIEW_SIDE);
        final Bitmap bitmap = Bitmap.createBitmap(
                small.toArgb(), small.width, small.height, Bitmap.Config.ARGB_8888);
        onScreen(new Runnable() {
            @Override
            public void run() {
                ((ImageView) findViewById(R.id.picture)).setImageBitmap(bitmap);
            }
        });
    }

    private void show(
            final List<SearchClient.Answer> found, final SearchClient client, final String told) {
        onScreen(new Runnable() {
            @Override
            public void run() {
                answers.show(found, client);
                say(told);
            }
        });
    }

    private void sayFromThere(final String text) {
        onScreen(new Runnable() {
            @Override
            public void run() {
                say(text);
            }
        });
    }

    /** Runs on the main thread, unless the screen is gone by then. */
    private void onScreen(final Runnable action) {
        runOnUiThread(new Runnable() {
            @Override
            public void run() {
                if (!isDestroyed()) {
                    action.run();
                }
            }
        });
    }

    private void say(String text) {
        ((TextView) findViewById(R.id.status)).setText(text);
    }

    private void keepSettings() {
        settings.keep(textOf(R.id.server), textOf(R.id.budget));
    }

    private String textOf(int id) {
        return ((EditText) findViewById(id)).getText().toString();
    }

    private void connect(int id, final Runnable action) {
        findViewById(id).setOnClickListener(new View.OnClickListener() {
            @Override
            public void onClick(View view) {
                action.run();
            }
        });
    }

    private static double toMs(long nanos) {
        return nanos / 1000 / 1e3;
    }
}
