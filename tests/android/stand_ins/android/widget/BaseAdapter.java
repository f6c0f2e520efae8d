package android.widget;

public abstract class BaseAdapter implements ListAdapter {
    public void notifyDataSetChanged() {}
}
