"""What a running watch keeps and tells: events in a database, their pictures in a folder, alerts in an outbox.

`store.EventStore` is the store, `alerts.dispatcher.Dispatcher` sends what its outbox holds. Needs `comemory[live]`.
"""
