package org.pocketlens.demo;

import android.app.Activity;
import android.graphics.Bitmap;
import android.graphics.BitmapFactory;
import android.view.View;
import android.view.ViewGroup;
import android.widget.BaseAdapter;
import android.widget.ImageView;
import android.widget.TextView;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import org.pocketlens.core.SearchClient;

/** Shows answers as rows: thumbnail, score, id, and what is known of the item. */
final class AnswerAdapter extends BaseAdapter {
    // A small picture is not larger.
    private static final int MOST_BYTES = 1 << 20;

    private final Activity activity;
    private final ExecutorService fetching;
    // Of the answers that are shown only: a search asks for a dozen.
    private final Map<String, Bitmap> thumbnails = new HashMap<>();
    private volatile List<SearchClient.Answer> answers = new ArrayList<>();

    AnswerAdapter(Activity activity, ExecutorService fetching) {
        this.activity = activity;
        this.fetching = fetching;
    }

    /** Shows other answers, and fetches their thumbnails. */
    void show(final List<SearchClient.Answer> found, final SearchClient client) {
        answers = found;
        thumbnails.clear();
        notifyDataSetChanged();
        for (final SearchClient.Answer answer : found) {
            fetching.execute(
                    new Runnable() {
                        @Override
                        public void run() {
                            // Of a search that another has followed nothing is fetched.
                            if (answers == found) {
                                fetch(found, answer.id, client);
                            }
                        }
                    });
        }
    }

    private void fetch(
            final List<SearchClient.Answer> found, final String id, SearchClient client) {
        byte[] data = client.thumbnail(id);
        if (data == null || data.length > MOST_BYTES) {
            return;
        }
        final Bitmap bitmap = BitmapFactory.decodeByteArray(data, 0, data.length);
        activity.runOnUiThread(
                new Runnable() {
                    @Override
                    public void run() {
                        if (answers == found) {
                            thumbnails.put(id, bitmap);
                            notifyDataSetChanged();
                        }
                    }
                });
    }

    @Override
    public int getCount() {
        return answers.size();
    }

    @Override
    public Object getItem(int position) {
        return answers.get(position);
    }

    @Override
    public long getItemId(int position) {
        return position;
    }

    @Override
    public View getView(int position, View used, ViewGroup parent) {
        View row = used;
        if (row == null) {
            row = activity.getLayoutInflater().inflate(R.layout.answer, parent, false);
        }
        SearchClient.Answer answer = answers.get(position);
        ImageView picture = (ImageView) row.findViewById(R.id.thumbnail);
        picture.setImageBitmap(thumbnails.get(answer.id));
        picture.setContentDescription(activity.getString(R.string.picture_of, answer.id));
        ((TextView) row.findViewById(R.id.score))
                .setText(String.format(Locale.ROOT, "%.3f", answer.score));
        ((TextView) row.findViewById(R.id.name)).setText(answer.id);
        ((TextView) row.findViewById(R.id.more)).setText(describe(answer.metadata));
        return row;
    }

    private static String describe(Map<String, Object> metadata) {
        StringBuilder text = new StringBuilder();
        for (Map.Entry<String, Object> each : metadata.entrySet()) {
            Object value = each.getValue();
            if (value instanceof Double && (Double) value == Math.rint((Double) value)) {
                value = ((Double) value).longValue();
            }
            if (value != null) {
                text.append(text.length() == 0 ? "" : ", ");
                text.append(each.getKey()).append(": ").append(value);
            }
        }
        return text.toString();
    }
}
