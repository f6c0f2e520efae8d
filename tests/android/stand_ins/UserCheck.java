import android.app.Activity;
import android.app.Application;
import android.content.Intent;
import android.content.Resources;
import android.content.SharedPreferences;
import android.content.res.AssetManager;
import android.media.ExifInterface;
import android.net.Uri;
import android.system.Os;
import android.view.View;
import android.widget.ImageView;
import android.widget.ListAdapter;
import android.widget.ListView;
import android.widget.TextView;
import java.io.File;
import java.util.Arrays;
import java.util.Iterator;
import java.util.Map;

/** Does with the app what a user does, step by step, and prints what is seen. */
public final class UserCheck {
    private static Activity app;

    public static void main(String[] given) throws Exception {
        Resources.layouts = new File(given[0]);
        Resources.texts = new File(given[1]);
        AssetManager.folder = new File(given[2]);
        ((Application) make("DemoApplication")).attach();
        System.out.println("telemetry: " + Os.SET.get("ORT_DISABLE_TELEMETRY"));
        app = (Activity) make("MainActivity");
        app.create();
        Iterator<String> steps = Arrays.asList(given).subList(3, given.length).iterator();
        while (steps.hasNext()) {
            run(steps.next(), steps);
        }
        app.leave();
        System.exit(0);
    }

    private static void run(String step, Iterator<String> steps) throws Exception {
        switch (step) {
            case "server":
                ((TextView) find("server")).setText(steps.next());
                break;
            case "gallery":
                ExifInterface.orientation = 1;
                Intent chosen = new Intent();
                chosen.data = Uri.parse(steps.next());
                ask("gallery", chosen);
                break;
            case "camera":
                // Held sideways.
                ExifInterface.orientation = 6;
                app.resolver.captured = steps.next();
                ask("camera", null);
                break;
            case "measure":
                find("measure").click();
                while (app.started.isEmpty()) {
                    Thread.sleep(20);
                }
                Intent shared = app.started.remove(0).chosen;
                System.out.println("measured: " + shared.extras.get("android.intent.extra.TEXT"));
                break;
            case "nocamera":
                app.nobodyAnswers = true;
                find("camera").click();
                System.out.println("nocamera: " + status());
                app.nobodyAnswers = false;
                break;
            case "cancel":
                app.answer(1, 0, null);
                System.out.println("cancelled: " + status());
                break;
            case "thumbnails":
                Thread.sleep(Long.parseLong(steps.next()));
                ListAdapter rows = ((ListView) find("answers")).adapter;
                for (int i = 0; i < rows.getCount(); i++) {
                    View row = rows.getView(i, null, null);
                    ImageView small =
                            (ImageView) row.findViewById(Resources.of("id").get("thumbnail"));
                    System.out.println("thumbnail " + i + ": "
                            + (small.bitmap == null ? "none" : small.bitmap.getWidth()));
                }
                break;
            case "leave":
                // While the search is on its way.
                Intent late = new Intent();
                late.data = Uri.parse(steps.next());
                find("gallery").click();
                app.answer(app.started.remove(0).request, Activity.RESULT_OK, late);
                app.leave();
                Thread.sleep(2000);
                System.out.println("left: " + status());
                app = (Activity) make("MainActivity");
                app.create();
                break;
            default:
                app.leave();
                System.out.println("kept: " + show(SharedPreferences.KEPT.getAll()));
                app = (Activity) make("MainActivity");
                app.create();
        }
    }

    private static void ask(String button, Intent answer) throws Exception {
        find(button).click();
        Intent asked = app.started.remove(0);
        Object place = asked.extras.get("output");
        String to = place == null ? asked.type : place + " flags " + asked.flags;
        System.out.println(button + " asks: " + asked.action + " " + to);
        app.answer(asked.request, Activity.RESULT_OK, answer);
        for (int i = 0; i < 1000 && status().endsWith("\u2026"); i++) {
            Thread.sleep(20);
        }
        System.out.println(button + " status: " + status());
        ListAdapter answers = ((ListView) find("answers")).adapter;
        if (answers.getCount() > 0) {
            System.out.println(button + " shows: " + describe(answers.getView(0, null, null)));
        }
        ImageView picture = (ImageView) find("picture");
        if (picture.bitmap != null) {
            int width = picture.bitmap.getWidth();
            System.out.println(
                    button + " picture: " + width + "\u00d7" + picture.bitmap.getHeight());
        }
    }

    private static String describe(View row) {
        StringBuilder text = new StringBuilder();
        for (String name : new String[] {"score", "name", "more"}) {
            TextView part = (TextView) row.findViewById(Resources.of("id").get(name));
            text.append(part.getText()).append(' ');
        }
        return text.toString().trim();
    }

    private static String status() {
        synchronized (Activity.class) {
            return ((TextView) find("status")).getText().toString();
        }
    }

    private static View find(String name) {
        return app.findViewById(Resources.of("id").get(name));
    }

    private static Object make(String name) throws Exception {
        return Class.forName("org.pocketlens.demo." + name).getConstructor().newInstance();
    }

    private static String show(Map<String, ?> kept) {
        StringBuilder text = new StringBuilder("{");
        for (Map.Entry<String, ?> each : kept.entrySet()) {
            text.append(text.length() == 1 ? "" : ", ").append('"').append(each.getKey());
            boolean number = each.getValue() instanceof Float;
            boolean failed = number && ((Float) each.getValue()).isNaN();
            text.append("\": ").append(number ? "" : "\"");
            text.append(failed ? "null" : each.getValue()).append(number ? "" : "\"");
        }
        return text.append('}').toString();
    }
}
