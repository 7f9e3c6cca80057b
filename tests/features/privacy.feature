Feature: Nobody sees what is not theirs
  Who may see an event follows from its subject alone, in the same way live, in replay and in history.
  Each scenario ends with an event that the watcher may see, so "nothing before it" is certain and not a matter of patience.

  Background:
    Given a buyer ada
    And a buyer ben
    And a node oslo
    And a node lima

  Scenario Outline: another buyer's channel is refused over <transport>
    When ben tries to watch buyer:ada over <transport>
    Then it is refused as forbidden

    Examples:
      | transport |
      | WebSocket |
      | SSE       |

  Scenario: another buyer's history is refused
    When ben asks for the history of buyer:ada
    Then it is refused as forbidden

  Scenario Outline: a stranger may watch an order and sees nothing of it over <transport>
    Given ben watches order:o1 over <transport>
    And ada watches order:o1 over <transport>
    When an ORDER_CREATED of ada with oslo over o1 is published
    And an ORDER_CREATED of ben with oslo over o1 is published
    Then the next that ben receives is the last published
    And ada receives the first published

    Examples:
      | transport |
      | WebSocket |
      | SSE       |

  Scenario: a stranger's replay of a deal is as empty as its live view
    When an ORDER_CREATED of ada with oslo over o1 is published
    And an ORDER_CREATED of ben with oslo over o1 is published
    And ben watches order:o1 over SSE from the earliest on
    Then ben has received the last published and nothing else

  Scenario: the deal of another node stays unseen
    Given lima watches intent:i1 over WebSocket
    When a QUOTE_RECEIVED of ada with oslo under i1 is published
    And a QUOTE_RECEIVED of ada with lima under i1 is published
    Then the next that lima receives is the last published

  Scenario: an unknown id answers as a stranger's does
    When ben watches order:never_made over SSE from the earliest on
    Then ben has received nothing
