"""Pages for people, rendered on the server: each works whole by a reload, and part by part for who follows it live."""
