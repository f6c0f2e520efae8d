package android.view;

public class View {
    public interface OnClickListener {
        void onClick(View view);
    }

    public int id;
    private OnClickListener listener;

    public View findViewById(int wanted) {
        return id == wanted ? this : null;
    }

    public void setOnClickListener(OnClickListener listener) {
        this.listener = listener;
    }

    public void setContentDescription(CharSequence text) {}

    public void click() {
        listener.onClick(this);
    }
}
