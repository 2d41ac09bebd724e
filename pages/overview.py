"""Overview: what is in the workspace, how far each dataset has come, and the next step."""

import streamlit as st

from curation import charts, overview, plain, ui

opened = ui.page("Overview")
steps = overview.of(opened)
if not steps:
    st.subheader("Check the preference data before it trains anything", anchor=False)
    st.write(
        "Import a dataset of chosen and rejected responses, let filters flag what looks wrong, judge the flagged pairs "
        "by hand and by key, and release a cleaned dataset with every decision on record."
    )
    with st.container(horizontal=True):
        if st.button(
            "Open the sample", type="primary", icon=":material/science:", help="some 240 pairs written for this project"
        ):
            with st.spinner("Importing and screening the sample"):
                ui.attempt(lambda: overview.open_sample(opened, ui.SAMPLE))
            st.rerun()
        st.page_link("pages/datasets.py", label="Import your own", icon=":material/upload:")
    st.stop()

for one in steps:
    with st.container(border=True, key=f"dataset-{one.dataset}"):
        st.subheader(plain.md(one.dataset), anchor=False)
        left, right = st.columns([3, 2], gap="large")
        with left:
            st.plotly_chart(charts.funnel(one.funnel), key=f"funnel-{one.dataset}", config={"displayModeBar": False})
        with right:
            st.caption("Distinct pairs, one stage inside the other. " + plain.md(one.words))
            st.markdown(f"**Next:** {plain.md(one.next_words)}")
            if st.button(one.next_label, key=f"next-{one.dataset}", type="primary", icon=":material/arrow_forward:"):
                st.session_state["dataset"] = one.dataset
                st.switch_page(f"pages/{one.next_page}.py")
with st.expander("Backup"):
    st.write("Copies the database (datasets, flags, verdicts, releases' records) into the workspace's folder `backups`.")
    if st.button("Back up now", icon=":material/save:"):
        ui.attempt(lambda: st.success(plain.md(f"Written: {overview.back_up(opened)}")))
