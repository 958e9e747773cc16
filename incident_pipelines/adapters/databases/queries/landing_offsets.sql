-- Where landing goes on in each partition, and which incarnation of its topic that is about.
SELECT o.topic, o.partition, o.next, o.state, g.topic_id, o.owner
FROM landing.offsets o
JOIN landing.origins g USING (origin_id)
