Feature: A client that comes back with its cursor gets exactly what it missed
  Nothing is lost by closing a connection, and nothing comes twice, however long it was closed.

  Background:
    Given a buyer ada
    And a node oslo

  Scenario Outline: what happened meanwhile comes first, and then what happens, over <transport>
    Given ada watches buyer:ada over <transport>
    And an ORDER_CREATED of ada with oslo is published
    And ada receives it
    When ada hangs up
    And 25 ORDER_CREATED of ada with oslo are published
    And ada comes back over <transport> with the cursor
    And an ORDER_CREATED of ada with oslo is published
    Then ada receives exactly the last 26 published, each once

    Examples:
      | transport |
      | WebSocket |
      | SSE       |

  Scenario Outline: a cursor from <one> goes on over <other>
    Given ada watches buyer:ada over <one>
    And an ORDER_CREATED of ada with oslo is published
    And ada receives it
    When ada hangs up
    And 3 ORDER_CREATED of ada with oslo are published
    And ada comes back over <other> with the cursor
    Then ada receives exactly the last 3 published, each once

    Examples:
      | one       | other     |
      | WebSocket | SSE       |
      | SSE       | WebSocket |

  Scenario Outline: a client that never got an event resumes from where it began, over <transport>
    Given ada watches buyer:ada over <transport>
    When ada hangs up
    And 2 ORDER_CREATED of ada with oslo are published
    And ada comes back over <transport> with the cursor
    Then ada receives exactly the last 2 published, each once

    Examples:
      | transport |
      | WebSocket |
      | SSE       |

  Scenario: the last few are there for who asks for them
    When 9 ORDER_CREATED of ada with oslo are published
    And ada watches buyer:ada over SSE from the last 5 on
    Then ada has received exactly the last 5 published

  Scenario: history says the same as the live view did
    When 4 ORDER_CREATED of ada with oslo are published
    Then the history of buyer:ada that ada reads is exactly what was published

  Scenario Outline: a cursor from a former life of the stream is told, not skipped, over <transport>
    When ada watches buyer:ada over <transport> from cursor MARKET.000000001.7 on
    Then a gap is told as recreated

    Examples:
      | transport |
      | WebSocket |
      | SSE       |
